"""The access log in a PostgreSQL database, to which the processes of several machines write at once.

database   where it is, and as whom it is asked       session   a connection to it, and its faults in words
schema     its tables, and how they are made
begin      what a start owes to those who died        ledger    one process's log, where it is written
mirror     a copy of it in an SQLite file of this machine, by which it is read, published and proved
comparing  … and whether both say the same             retention  what of it goes, by one machine at a time

The database is the authority for leaves, logs and registry, and for nothing else: what is made of them is
made of the copy, by the same code as where the file itself is the authority. Leaves have the numbers there
that they have in the copy: their turn among all that were committed, which one lock gives, that of the turn.

A writer lives as long as the session that holds the lock of its log (an advisory lock of PostgreSQL, which
ends with the session). A start seals the logs whose lock is free. Of the modules here session.py alone
imports asyncpg, which is the extra `postgres`.
"""
