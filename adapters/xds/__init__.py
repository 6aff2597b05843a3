"""IHE XDS.b: documents that come, are found and are fetched by SOAP 1.2 with MTOM and XOP.

ITI TF-2 sections 3.41 (Provide and Register Document Set-b), 3.18 (Registry Stored Query) and
3.43 (Retrieve Document Set), with ITI TF-2 Appendix V for the web services.
"""
