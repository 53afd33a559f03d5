"""UCF101 and HMDB51: videos with a class, without boxes."""

from os import PathLike
from pathlib import Path

from captum_3dcam.datasets._splits import (
    check_split,
    find_folder,
    read_class_index,
    read_class_splits,
    read_video_list,
)
from captum_3dcam.datasets._video_dataset import VideoDataset


class UCF101(VideoDataset):
    """UCF101 (Soomro et al., 2012, arXiv 1212.0402); a sample is a :class:`VideoClip`.

    ``root`` contains the videos, ``<class>/<video>.avi``, or folders ``<class>/<video>`` of
    numbered images, which take precedence; and the lists classInd.txt, trainlist01.txt, ..., in
    the folder ucfTrainTestlist or in ``root`` itself.

    Args:
        root: the folder of the dataset.
        subset: ``"train"`` or ``"test"``.
        split: 1, 2 or 3.
        clip_length: the number of frames of a clip; the last one of a video is padded. With None
            each video is one clip, and no video is opened before it is read.

    Raises:
        ValueError: for an unknown subset or split, a wrong clip_length, and a damaged list.
        FileNotFoundError: if a list is missing.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as root:
    ...     _ = Path(root, "classInd.txt").write_text("1 Archery\\n2 YoYo\\n")
    ...     _ = Path(root, "testlist01.txt").write_text("YoYo/v_YoYo_g01_c01.avi\\n")
    ...     data = UCF101(root, clip_length=None)
    >>> data.classes, data.videos, data.labels
    (('Archery', 'YoYo'), ('YoYo/v_YoYo_g01_c01',), (1,))
    """

    def __init__(
        self,
        root: str | PathLike[str],
        subset: str = "test",
        split: int = 1,
        *,
        clip_length: int | None = 16,
    ) -> None:
        check_split(subset, split)
        lists = find_folder(Path(root), ("ucfTrainTestlist", "."), "classInd.txt")
        classes = read_class_index(lists / "classInd.txt")
        videos = read_video_list(lists / f"{subset}list{split:02d}.txt", classes)
        super().__init__(Path(root), subset, split, classes, videos, clip_length)


class HMDB51(VideoDataset):
    """HMDB51 (Kuehne et al., ICCV 2011, doi 10.1109/ICCV.2011.6126543).

    As :class:`UCF101`, but with split files, ``<class>_test_split1.txt``, ..., in the folder splits
    or testTrainMulti_7030_splits, or in ``root`` itself. The classes are those with a split file,
    in alphabetical order.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as root:
    ...     lines = "one.avi 1\\ntwo.avi 2\\nunused.avi 0\\n"
    ...     _ = Path(root, "wave_test_split1.txt").write_text(lines)
    ...     data = HMDB51(root, "train", clip_length=None)
    >>> data.classes, data.videos
    (('wave',), ('wave/one',))
    """

    def __init__(
        self,
        root: str | PathLike[str],
        subset: str = "test",
        split: int = 1,
        *,
        clip_length: int | None = 16,
    ) -> None:
        folders = ("splits", "testTrainMulti_7030_splits", ".")
        classes, videos = read_class_splits(Path(root), folders, subset, split)
        super().__init__(Path(root), subset, split, classes, videos, clip_length)
