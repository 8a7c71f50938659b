"""The examples of the page *Your own model*, written in pyro: what `lines_of_code` compares.

Each file is a whole program, `python -m benchmarks.in_pyro.plain`, with the networks, the optimizer
and the 20 epochs of the page; all but `plain` change as little of it as they can. It prints the
validation bound in nats per image, as the page does.
"""
