"""The long form of the codec's fuzz test: millions of frames, each with a bound of time and memory.

`python -m tests.fuzz --inputs N --seed S`. The short form is tests/unit/test_codec_fuzz.py.
"""
