# SPDX-License-Identifier: Apache-2.0
"""Makes the folder's modules importable, whatever folder pytest is started in."""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
