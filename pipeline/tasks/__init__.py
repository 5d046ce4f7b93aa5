"""Jobs, one a file: the only room that puts stages in an order"""
