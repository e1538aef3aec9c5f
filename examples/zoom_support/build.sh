#!/usr/bin/env bash
# The whole way from a flowchart to a sealed agent. `subterra build examples/zoom_support` does the same.
set -euo pipefail
cd "$(dirname "$0")/../.."
work=build/zoom_support

# Look at the procedure: counts, paths, drawing.
subterra show examples/zoom_support

# Dialogues from the training bank, then LoRA on the small base model (about 45 minutes on two cores).
subterra compile examples/zoom_support --out $work

# The adapter becomes one with its base.
subterra merge $work

# Every variant: GGUF for llama.cpp, ONNX for machines without a compiler.
subterra quantize $work

# What each variant loses, on held-out wording that training never saw.
subterra report $work --dialogues $work/dialogues/heldout.jsonl \
  --users examples/zoom_support/users/heldout.yaml

# Sign the chosen variants into one folder; of the procedure only a salted commitment goes in.
subterra seal $work --procedure examples/zoom_support/procedure.yaml --variant Q8_0 --variant onnx-int8

# Check it as the device will, try every way out, then talk.
subterra verify $work/zoom_support.agent
subterra prove $work/zoom_support.agent
subterra chat $work/zoom_support.agent
