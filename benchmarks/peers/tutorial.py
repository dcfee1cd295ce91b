"""The loop that every tutorial shows: float32, NCHW, ImageFolder, two workers. Prints the second epoch's images/s."""

import json
import sys
import time
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import ImageFolder

from sightline.models import create_model

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def main(data: str, network: str, pixels: int, batch: int, device: str) -> None:
    crop = transforms.RandomCrop(pixels, padding=4) if pixels <= 64 else transforms.RandomResizedCrop(pixels)
    steps = [crop, transforms.RandomHorizontalFlip(), transforms.ToTensor(), transforms.Normalize(MEAN, STD)]
    images = ImageFolder(f"{data}/train", transforms.Compose(steps))
    loader: Any = DataLoader(images, batch, shuffle=True, num_workers=2, drop_last=True)
    model = create_model(network, num_classes=10, image_size=pixels).to(device)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)
    criterion = nn.CrossEntropyLoss()
    rate = 0.0
    for _ in range(2):
        began, seen = time.perf_counter(), 0
        for inputs, labels in loader:
            optimizer.zero_grad()
            loss = criterion(model(inputs.to(device)), labels.to(device))
            loss.backward()
            optimizer.step()
            seen += len(labels)
        loss.item()  # a GPU's last step has ended
        rate = seen / (time.perf_counter() - began)
    print(json.dumps({"images_per_second": rate}))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), sys.argv[5])
