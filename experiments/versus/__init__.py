"""The parts of versus_frameworks.py: what is raced, how each framework does it, and the race.

nets.py says what; material.py makes the weights and batches that all start from; *_peer.py is one framework each, run
in a process of its own by worker.py; race.py drives these processes in turn; report.py prints and writes the tables.
"""
