"""Half precision on CUDA for polyface, with captured graphs."""
