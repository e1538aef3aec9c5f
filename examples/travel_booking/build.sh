#!/usr/bin/env bash
# The whole way from a flowchart to a sealed agent. `subterra build examples/travel_booking` does the same.
set -euo pipefail
cd "$(dirname "$0")/../.."
work=build/travel_booking

# Look at the procedure: counts, paths, drawing.
subterra show examples/travel_booking

# Dialogues from the training bank, then LoRA on the small base model (about an hour on two cores).
subterra compile examples/travel_booking --out $work

# The adapter becomes one with its base.
subterra merge $work

# Every variant: GGUF for llama.cpp, ONNX for machines without a compiler.
subterra quantize $work

# What each variant loses, on held-out wording that training never saw.
subterra report $work --dialogues $work/dialogues/heldout.jsonl \
  --users examples/travel_booking/users/heldout.yaml

# Sign the chosen variants into one folder; of the procedure only a salted commitment goes in.
subterra seal $work --procedure examples/travel_booking/procedure.yaml --variant Q8_0 --variant onnx-int8

# Check it as the device will, try every way out, then talk.
subterra verify $work/travel_booking.agent
subterra prove $work/travel_booking.agent
subterra chat $work/travel_booking.agent
