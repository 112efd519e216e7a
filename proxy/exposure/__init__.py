"""Who was given which rows, in which form: the access log's evidence held against a condition.

where.py    a condition over what is kept of rows     search.py   … of the accesses of a log
bundle.py   what was found, for somebody who has neither the log nor this program: with checker.py, which
            needs nothing but Python, and page.py, for people to read
"""
