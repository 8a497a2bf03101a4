"""Annotation files of clips: spans of signs, chosen frames, ELAN, subtitles, HMM states of PHOENIX-2014T."""
