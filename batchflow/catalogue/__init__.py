"""Catalogues as published, brought into one internal form."""
