"""Files of strangers over the network: fetched with resume, verified, remembered, unpacked without traps."""
