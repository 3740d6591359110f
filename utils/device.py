"""The device that a fold is trained on."""

import torch


def choose_device(wanted: str, n_gpu: int) -> tuple[torch.device, list[str]]:
    """Turn the user's choice into a device that is there.

    Parameters
    ----------
    wanted : str
        A GPU's number, `cpu` or `mps`. A GPU that is not there means the CPU.
    n_gpu : int
        GPUs that the configuration asks for; 0 means the CPU.

    Returns
    -------
    device : torch.device
    remarks : list of str
        What was not as wanted, for the log.
    """
    available = torch.cuda.device_count()
    remarks = []
    if n_gpu > max(available, 1):
        remarks.append(f"n_gpu is {n_gpu}, but {available} GPUs are here: using {min(1, available) or 'the CPU'}.")
    if wanted == "mps":
        if torch.backends.mps.is_available():
            return torch.device("mps"), remarks
        return torch.device("cpu"), [*remarks, "mps is not available here: using the CPU."]
    if wanted == "cpu" or n_gpu == 0:
        return torch.device("cpu"), remarks
    if int(wanted) < available:
        return torch.device("cuda", int(wanted)), remarks
    return torch.device("cpu"), [*remarks, f"GPU {wanted} is not among the {available} GPUs here: using the CPU."]
