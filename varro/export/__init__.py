"""What leaves the house: adapters and their card, an environment, tables, numbers for trackers.

Nothing here is a source. All of it is made again from ledger and checkpoints, into a new folder or
file that gets its name when it is whole; and nothing leaves that is not what was published.
"""
