"""UCF101 and HMDB51 on disk: videos with a class, and without boxes."""

from os import PathLike
from pathlib import Path

from captum_3dcam._validation import check_choice
from captum_3dcam.datasets._frames import FrameSource
from captum_3dcam.datasets._splits import (
    SUBSETS,
    find_folder,
    read_class_index,
    read_class_splits,
    read_video_list,
)
from captum_3dcam.datasets.clips import Video, VideoDataset


class UCF101(VideoDataset):
    """UCF101 (Soomro et al., 2012, arXiv 1212.0402), as clips; each has boxes (0, T, 4).

    Under ``root`` lie the videos, ``<class>/<video>.avi`` or a folder ``<class>/<video>`` of
    numbered pictures, which wins; and the lists classInd.txt, trainlist01.txt, ..., in a folder
    ucfTrainTestlist or without it.

    Args:
        root: the folder.
        subset: ``"train"`` or ``"test"``.
        split: 1, 2 or 3.
        clip_length: the frames of a clip; the last one of a video is padded. None: a video is
            one clip, and nothing is opened before it is read.

    Raises:
        ValueError: for another subset, split or clip_length, and for a damaged list.
        FileNotFoundError: without the lists.

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
        check_choice("subset", subset, SUBSETS)
        check_choice("split", split, (1, 2, 3))
        self.root = Path(root)
        lists = find_folder(self.root, ("ucfTrainTestlist", "."), "classInd.txt")
        classes = read_class_index(lists / "classInd.txt")
        names = read_video_list(lists / f"{subset}list{split:02d}.txt", classes)
        labels = {name: label for label, name in enumerate(classes)}
        videos = [
            Video(name, labels[name.split("/")[0]], _source(self.root, name)) for name in names
        ]
        super().__init__(classes, videos, clip_length)


class HMDB51(VideoDataset):
    """HMDB51 (Kuehne et al., ICCV 2011, doi 10.1109/ICCV.2011.6126543), as clips without boxes.

    Under ``root`` lie the videos, ``<class>/<video>.avi`` or a folder ``<class>/<video>`` of
    numbered pictures, which wins; and the splits, ``<class>_test_split1.txt``, ..., in a folder
    splits or testTrainMulti_7030_splits, or without it. The classes are those that have a split
    file, in order of the alphabet.

    Args and errors as of :class:`UCF101`.

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
        check_choice("subset", subset, SUBSETS)
        check_choice("split", split, (1, 2, 3))
        self.root = Path(root)
        places = ("splits", "testTrainMulti_7030_splits", ".")
        folder = find_folder(self.root, places, f"?*_test_split{split}.txt")
        listed = read_class_splits(folder, split, subset)
        videos = [
            Video(f"{name}/{video}", label, _source(self.root, f"{name}/{video}"))
            for label, (name, names) in enumerate(listed.items())
            for video in names
        ]
        super().__init__(tuple(listed), videos, clip_length)


def _source(root: Path, name: str) -> FrameSource:
    return FrameSource(root / name, root / f"{name}.avi")
