"""Turn a procedure into an adapter: dialogues, recipes, training, merging and scoring."""
