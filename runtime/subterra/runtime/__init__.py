"""Run a sealed agent on the device: bundles, engines, session and guard.

Never sees a procedure; imports neither torch, transformers nor textual. Telemetry of the libraries
is switched off here, before any of them can be imported.
"""

from subterra.runtime.telemetry import silence

silence()
