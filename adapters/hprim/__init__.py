"""HPRIM Santé 2.x and HPRIM Médecin 3.0: results as French laboratories send them to practices.

Sources of what is said here of the two formats: the recommendation «H.PR.I.M. Médecins»
version 3.0 (March 1997) and its description by those who receive it (bluegyn.com, articles
387 and «entête conforme»); for HPRIM Santé, which builds on ASTM E1238, the structures of
versions 2.1 to 2.4 as Mediboard and libHprim implement them, and the order of the five
separators as HPRIM Santé 2.5 section 7.2 gives it. Where these leave something open, nothing
is guessed: the value is kept as text, or left out with a flag.
"""
