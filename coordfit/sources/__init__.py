"""Files of arrays: NumPy's, sounds, stacks of TIFF, OpenEXR, folders of frames; read and written."""
