"""Worker processes on one port: a supervisor, and workers that are each the whole proxy.

supervisor   starts them, stops them, starts anew what dies; reads the metrics of all
worker       one of them
channel      what they say to each other
"""
