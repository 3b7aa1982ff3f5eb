"""Latency of several runtimes on the same input: one process each, in turns, outputs checked before any clock
starts.

One process per runtime, because the spinning threads of one slow the others down; turns with idle gaps,
because the clock speed and the neighbours of a machine drift, and a drift must hit all of them alike.
"""
