"""Budgets: how much each subject was given in a window, counted before it is, and refused beyond its limits.

counters.py    what is spent, charged all together or not at all: an interface of three
embedded.py    … kept beside the access log        valkey.py   … for several servers
spending.py    what one access takes
"""
