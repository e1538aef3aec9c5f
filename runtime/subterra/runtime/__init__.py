"""Run a sealed agent on the device: bundles, engines, session and guard.

Never sees a procedure; imports neither torch, transformers nor textual.
"""
