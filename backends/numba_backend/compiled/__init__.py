"""A training step as a list of instructions for compiled code.

Small networks spend more time between their products than in them: in Python, and waiting for its lock. Here
each primitive becomes records of addresses and shapes (`instructions`), which one compiled loop executes
(`interpreter`). A step is recorded once as a program for each worker thread (`..recording`) and then runs
without Python. Workers that wait for each other spin at a barrier for less than a microsecond (`barrier`), so
that even one layer can be divided by columns.
"""
