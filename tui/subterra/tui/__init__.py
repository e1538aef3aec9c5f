"""Talk to a sealed agent in the terminal."""
