"""Source `recorded`: option chains, prices, DVOL and funding from other recorders' files.

`files` opens them, `formats` tells them apart by their columns, one module per family decodes, `catalogue` knows
what lies where, `series` reads what stands beside the chains, `source` serves it all behind the protocol.
"""
