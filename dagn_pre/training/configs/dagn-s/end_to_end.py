_base_ = "dagn.py"
end_to_end = True
