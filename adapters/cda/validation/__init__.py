"""What is wrong with a CDA document, by the official rules of a pack and by rules of our own.

A *pack* is a folder that a site keeps: the XML schema, schematrons and value sets of the
CI-SIS (:mod:`.pack`). Its rules run in a process of their own that can open nothing
(:mod:`.engine`); :mod:`.national` holds what the official rules do not look at and the
national record refuses. :class:`.validator.Validator` puts them together.
"""
