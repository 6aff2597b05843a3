"""ebRIM 3.0 metadata of documents, as IHE's Document Sharing profiles use them.

What XDM (a file in an archive) and XDS (the body of a request) have in common: ITI TF-3 sections
4.1 and 4.2. Knows neither archives nor requests.
"""
