"""The route of docs/your_model.md from a trained folder of nnU-Net v2 to a map."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch

PAGE = Path(__file__).parents[2] / "docs" / "your_model.md"
RESAMPLING = {
    f"resampling_fn_{kind}{suffix}": value
    for kind, order in (("data", 3), ("seg", 1), ("probabilities", 1))
    for suffix, value in (
        ("", "resample_data_or_seg_to_shape"),
        (
            "_kwargs",
            {"is_seg": kind == "seg", "order": order, "order_z": 0, "force_separate_z": None},
        ),
    )
}
ARCHITECTURE = {
    "network_class_name": "dynamic_network_architectures.architectures.unet.PlainConvUNet",
    "arch_kwargs": {
        "n_stages": 3,
        "features_per_stage": [4, 8, 8],
        "conv_op": "torch.nn.modules.conv.Conv3d",
        "kernel_sizes": [[3, 3, 3]] * 3,
        "strides": [[1, 1, 1], [2, 2, 2], [2, 2, 2]],
        "n_conv_per_stage": [1, 1, 1],
        "n_conv_per_stage_decoder": [1, 1],
        "conv_bias": True,
        "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
        "norm_op_kwargs": {"eps": 1e-5, "affine": True},
        "dropout_op": None,
        "dropout_op_kwargs": None,
        "nonlin": "torch.nn.LeakyReLU",
        "nonlin_kwargs": {"inplace": True},
    },
    "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
}
INTENSITIES = {"mean": 0.5, "std": 0.3, "min": 0.0, "max": 1.0, "median": 0.5}
PLANS = {
    "dataset_name": "Dataset001_Noise",
    "plans_name": "nnUNetPlans",
    "original_median_spacing_after_transp": [1, 1, 1],
    "original_median_shape_after_transp": [40, 32, 24],
    "image_reader_writer": "SimpleITKIO",
    "transpose_forward": [0, 1, 2],
    "transpose_backward": [0, 1, 2],
    "experiment_planner_used": "ExperimentPlanner",
    "label_manager": "LabelManager",
    "foreground_intensity_properties_per_channel": {
        "0": {**INTENSITIES, "percentile_00_5": 0.0, "percentile_99_5": 1.0}
    },
    "configurations": {
        "3d_fullres": {
            "data_identifier": "noise",
            "preprocessor_name": "DefaultPreprocessor",
            "batch_size": 2,
            "patch_size": [16, 16, 16],
            "median_image_size_in_voxels": [40, 32, 24],
            "spacing": [1, 1, 1],
            "normalization_schemes": ["ZScoreNormalization"],
            "use_mask_for_norm": [False],
            "architecture": ARCHITECTURE,
            "batch_dice": False,
            **RESAMPLING,
        }
    },
}
DATASET = {
    "channel_names": {"0": "CT"},
    "labels": {"background": 0, "lesion": 1, "other": 2},
    "numTraining": 1,
    "file_ending": ".nii.gz",
}


@pytest.fixture
def trained(tmp_path):
    """What nnU-Net leaves after training: plans, dataset, and the weights of a fold."""
    pytest.importorskip("nnunetv2", reason="nnunetv2 is not installed: make test installs it")
    handler = pytest.importorskip("nnunetv2.utilities.plans_handling.plans_handler")
    trainer = pytest.importorskip("nnunetv2.training.nnUNetTrainer.nnUNetTrainer").nnUNetTrainer
    (tmp_path / "fold_0").mkdir()
    (tmp_path / "plans.json").write_text(json.dumps(PLANS))
    (tmp_path / "dataset.json").write_text(json.dumps(DATASET))
    plans = handler.PlansManager(PLANS)
    configuration = plans.get_configuration("3d_fullres")
    torch.manual_seed(0)
    network = trainer.build_network_architecture(
        plans, configuration, 1, 3, enable_deep_supervision=False
    )
    checkpoint = {
        "network_weights": network.state_dict(),
        "trainer_name": "nnUNetTrainer",
        "init_args": {"configuration": "3d_fullres"},
        "inference_allowed_mirroring_axes": None,
    }
    torch.save(checkpoint, tmp_path / "fold_0" / "checkpoint_final.pth")
    return tmp_path


@pytest.mark.filterwarnings("ignore")
def test_from_a_trained_folder_to_a_map(trained, tmp_path):
    import SimpleITK

    scan = np.random.default_rng(0).random((40, 32, 24)).astype(np.float32)
    path = tmp_path / "case_0000.nii.gz"
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(scan), str(path))
    (code,) = re.findall(r"^```py\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    names = {"folder": str(trained), "files": [str(path)]}
    exec(compile(code, str(PAGE), "exec"), names)
    assert names["attribution"].shape == (1, 1, 40, 32, 24)
    assert names["attribution"].max() > 0
    assert [layer.name for layer in names["cam"].layers] == [
        *("encoder.stages.0", "encoder.stages.1", "encoder.stages.2"),
        *("decoder.stages.0", "decoder.stages.1"),
    ]
