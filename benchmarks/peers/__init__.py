"""The rules of other tools for sick trainings, in our own words, run on the zoo beside flatline.

``python -m benchmarks.peers`` trains the zoo's runs once, lets every peer watch, and prints who saw
what. One module holds one peer's rules; :mod:`.peer` says what a peer is, :mod:`.recorder` how it
gets to see a training, and :mod:`.roster` who takes part and who does not, and why.
"""
