"""train_Kfold_CV.py with batch norm's statistics frozen: then a share of a batch gives what it gives in the batch."""

import sys
from pathlib import Path

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
_BatchNorm.train = lambda self, mode=True: nn.Module.train(self, False)

if __name__ == "__main__":
    import train_Kfold_CV

    sys.exit(train_Kfold_CV.run())
