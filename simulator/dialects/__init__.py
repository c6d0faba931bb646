"""The kinds of model server that can be simulated: each knows its command line and the metrics that it shows."""
