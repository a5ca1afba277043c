"""The labelling page: a small server on this machine, where people answer in a browser.

`desk` knows the questions and stores the answers, `app` has the requests, `guard` and `access` say
who may send them, and `serving` runs it all.
"""
