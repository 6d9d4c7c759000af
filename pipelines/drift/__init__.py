"""Whether new data are still like the data that the model learned from."""
