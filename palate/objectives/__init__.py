"""The mathematics of the objectives: tensors in, sums and counts out. It imports torch and `palate.core`, and nothing else.

Import an objective from the module that defines it. Its union is at the foot of the module, or in the `__init__` of the package.
"""
