"""Tables and files that people write beside clips: spans of signs, chosen frames, ELAN, HMM states of PHOENIX-2014T."""
