"""Writes the files beside it: python make.py, with torch and safetensors installed.

trained.safetensors: the state dict of a small network of PyTorch's after some steps of training.
answers.safetensors: an input, and what the network made of it: in eval mode, then in train mode, which moves the running statistics, then
in eval mode again.
"""

from pathlib import Path

import safetensors.torch
import torch
from torch import nn

HERE = Path(__file__).parent


class Net(nn.Module):
    """test_serialization.py builds the same from minitensor.nn."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.InstanceNorm2d(3, affine=True, track_running_stats=True)
        self.mix = nn.Linear(5, 4)
        self.scale = nn.InstanceNorm2d(3, eps=1e-3, momentum=0.3, affine=True, track_running_stats=True, bias=False)
        self.flat = nn.InstanceNorm1d(3, affine=True, track_running_stats=True)
        self.plain = nn.InstanceNorm1d(3)
        self.head = nn.Linear(72, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # (N, 3, 6, 5)
        x = torch.tanh(self.norm(x))
        x = torch.tanh(self.scale(self.mix(x)))
        x = torch.tanh(self.flat(x.reshape(len(x), 3, 24)))
        return self.head(self.plain(x).reshape(len(x), 72))


if __name__ == "__main__":
    torch.manual_seed(0)
    net = Net()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05)
    for _ in range(100):
        x = 2 * torch.randn(8, 3, 6, 5) + 1
        loss = torch.nn.functional.mse_loss(net(x), torch.stack([x.std(dim=(1, 2, 3)), x[:, 0, 0, 0]], 1))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    safetensors.torch.save_file(net.state_dict(), HERE / "trained.safetensors")

    answers = {"input": 2 * torch.randn(4, 3, 6, 5) + 1}
    with torch.no_grad():
        for name, training in (("eval", False), ("train", True), ("eval after train", False)):
            answers[name] = net.train(training)(answers["input"])
    safetensors.torch.save_file(answers, HERE / "answers.safetensors", {"torch": torch.__version__})
