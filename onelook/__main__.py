"""`python -m onelook`: the command `onelook`, for torchrun too."""

from onelook.command import main

if __name__ == "__main__":
    main()
