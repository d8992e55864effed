"""The exchange in a box: Deribit's wire protocol on loopback, fed by any source, with faults at a switch."""
