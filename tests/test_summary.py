import os
import subprocess
import sys

import pytest
import torch
from torch import nn

from sightline import summary
from sightline.errors import ModelError
from sightline.models import create_model


def test_counts_are_those_published_for_resnet50() -> None:
    with torch.device("meta"):
        model = create_model("resnet50")
    assert summary.count(model, 224) == summary.Counts(25_557_032, 25_557_032, 4_089_184_256)


def test_frozen_parameters_are_not_trainable() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Flatten(), nn.Linear(4 * 4 * 4, 2))
    model[0].requires_grad_(False)
    assert summary.count(model, 4) == summary.Counts(16 + 130, 130, 3 * 4 * 16 + 64 * 2)


def test_a_shared_parameter_is_counted_once() -> None:
    first, second = nn.Linear(4, 4), nn.Linear(4, 4)
    second.weight = first.weight
    assert summary.num_parameters(nn.Sequential(first, second)) == 16 + 4 + 4


def test_counting_leaves_the_model_and_the_random_generator_untouched() -> None:
    model = create_model("resnet20", drop_path=0.2)
    model.eval()
    model.layer1.train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    state = torch.get_rng_state()
    summary.count(model, 32)
    summary.training_memory(model, batch_size=4, image_size=32)
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert model.layer1.training
    assert not model.layer2.training


def test_the_layer_table_adds_up_to_the_whole() -> None:
    model = create_model("resnet20")
    layers = summary.layer_table(model, 32)
    assert sum(layer.params for layer in layers) == summary.num_parameters(model)
    assert sum(layer.macs for layer in layers) == summary.num_macs(model, 32)
    assert layers[0] == summary.Layer("conv1", "Conv2d", (16, 32, 32), 432, 432 * 1024, 0)
    assert layers[-1].name == "head"
    assert layers[-1].output == (10,)


def test_activation_memory_is_what_autograd_saves() -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.Sigmoid(), nn.Conv2d(8, 2, 1))
    memory = summary.training_memory(model, batch_size=4, image_size=16)
    images = 4 * 3 * 16 * 16 * 4
    sigmoid = 4 * 8 * 16 * 16 * 4  # its own output, which is also the last convolution's input
    assert memory.activations == images + sigmoid


def test_adamw_keeps_two_tensors_for_each_trainable_parameter_and_sgd_one() -> None:
    model = create_model("resnet20")
    model.head.requires_grad_(False)
    trainable = 4 * (269_722 - 650)
    adamw = summary.training_memory(model, batch_size=2, image_size=32, optimizer="adamw")
    sgd = summary.training_memory(model, batch_size=2, image_size=32, optimizer="sgd")
    assert (adamw.gradients, adamw.optimizer, sgd.optimizer) == (trainable, 2 * trainable, trainable)
    assert adamw.total - sgd.total == trainable


def test_mixed_precision_takes_less_activation_memory() -> None:
    model = create_model("resnet18_cifar")
    full = summary.training_memory(model, batch_size=64, image_size=32)
    mixed = summary.training_memory(model, batch_size=64, image_size=32, precision="bf16")
    assert mixed.weights == full.weights
    assert 0.4 < mixed.activations / full.activations < 0.8


def test_a_batch_of_one_is_estimated_although_batch_norm_could_not_train_on_it() -> None:
    model = create_model("resnet18")
    one = summary.training_memory(model, batch_size=1, image_size=32)
    two = summary.training_memory(model, batch_size=2, image_size=32)
    assert one.activations == pytest.approx(two.activations / 2, rel=1e-3)


def test_grey_images_are_recognised_by_the_first_convolution() -> None:
    assert summary.num_macs(create_model("resnet20", in_channels=1), 32) < summary.num_macs(
        create_model("resnet20"), 32
    )


def test_an_unknown_optimiser_or_precision_is_refused() -> None:
    model = create_model("resnet20")
    with pytest.raises(ModelError, match=r"'adamm'\. Did you mean 'adam'"):
        summary.training_memory(model, batch_size=2, image_size=32, optimizer="adamm")
    with pytest.raises(ModelError, match="float32, bf16 or fp16, got '8'"):
        summary.training_memory(model, batch_size=2, image_size=32, precision="8")


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak from /proc")
def test_the_estimate_is_near_the_peak_memory_of_a_real_step() -> None:
    program = """
import torch
from sightline.models import create_model
torch.set_num_threads(1)
def figure(name):
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith(name)) * 1024
def train(model, optimizer, images):
    for _ in range(2):
        optimizer.zero_grad()
        model(images).logsumexp(1).sum().backward()
        optimizer.step()
small = create_model("resnet20")
train(small, torch.optim.AdamW(small.parameters()), torch.randn(2, 3, 32, 32))  # the kernels' own memory
before = figure("VmRSS")
with open("/proc/self/clear_refs", "w") as reset:
    reset.write("5")
model = create_model("resnet18_cifar")
train(model, torch.optim.AdamW(model.parameters()), torch.randn(32, 3, 32, 32))
print(figure("VmHWM") - before)
"""
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536"}  # what is freed goes back to the system at once
    finished = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
    )
    estimate = summary.training_memory(create_model("resnet18_cifar"), batch_size=32, image_size=32).total
    assert int(finished.stdout) == pytest.approx(estimate, rel=0.1)
