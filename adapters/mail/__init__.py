"""Documents that come by electronic mail: a mailbox that is emptied (IMAP), and a port that takes
mail (SMTP, LMTP).

A mail carries IHE XDM archives (``IHE_XDM.zip``, as MSSanté clients send them) or CDA documents as
attachments. What one of these holds is said by the receptions of their own formats, which are
handed in; nothing here knows them.
"""
