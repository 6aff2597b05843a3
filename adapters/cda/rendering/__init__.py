"""Any CDA document as one HTML page that is safe to look at.

Nothing of the document becomes markup but by a closed list of elements
(:mod:`.narrative`): no script, no style, no address that a browser would fetch. What a
page holds it carries itself; :data:`.page.POLICY` makes the browser hold to that.
"""
