"""Which rows an answer holds, and in which forms: taken down while they are given, read back for years.

layout.py    what evidence looks like, and how a record names it
witness.py   released records -> evidence           reading.py   evidence -> rows and forms
"""
