"""Layers with parameters, gradients and a tape of their own."""
