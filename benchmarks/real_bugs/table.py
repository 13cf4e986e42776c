"""The bugs: what was wrong with each, and what four tools were published to have said of it.

The list and the verdicts are those of DeepFD's evaluation (Cao et al., ICSE 2022; repository
ArabelaTso/DeepFD, ``Benchmark/Evaluation.xlsx``), which lists 52 programs. Two of them are not
counted: one has no fault, and one was run by no tool. The verdicts of the other 50 are the sheet's.
The buggy programs are known from DeepLocalize's benchmark (Wardat-ISU/DeepLocalize) and from the
posts; what was answered there from the posts, or from the analysis by hand of Jahangirova et al.
(ICSE 2025; dlfaults/HowRealAreThey), which also says where patch and answer differ.

What counts as a right diagnosis was decided from the accepted answer or the patch, before flatline
saw any of the programs. A code is right when

- the accepted answer or the patch acts on what the code names, and doing so has an effect on the
  re-expressed program; or
- acting on that alone repairs the re-expressed program.

One row was corrected later, by the second of these rules: for ``Traffic-Sign-Classifier`` scaling
the images had not been tried, which repairs it alone.

A symptom is no diagnosis: ``no-learning`` or ``non-finite`` never count. A bug is out of scope when
it concerns no unit, gradient, scale, initialisation, learning rate or loss, or when buggy and
repaired program do not differ in what they learn.
"""

from __future__ import annotations

from dataclasses import dataclass

TOOLS = {"U": "UMLAUT", "A": "AutoTrainer", "L": "DeepLocalize", "F": "DeepFD"}

OUTPUT = ("output-activation",)
TOO_SMALL = ("learning-rate-too-low",)
TOO_LARGE = ("learning-rate-too-high",)
UNSCALED = ("unscaled-input",)
DEAD = ("born-dead", "dying-relu")


@dataclass(frozen=True)
class Bug:
    """A bug.

    Attributes:
        name: Number of the post, or name of the repository.
        detected: Initials of the tools that were published to have noticed it.
        diagnosed: Initials of those that were published to have diagnosed it.
        codes: Findings that are a right diagnosis; none when the bug is out of scope.
        about: The program and what it suffers from.
        why: Why those, or why it is out of scope.
        leaves: True findings about the repaired program: what the repair leaves in.
        remains: Why those are true.
        counted: Whether it is one of the 50.
        commit: The patch of a bug from GitHub.
    """

    name: str
    detected: str
    diagnosed: str
    codes: tuple[str, ...]
    about: str
    why: str
    leaves: tuple[str, ...] = ()
    remains: str = ""
    counted: bool = True
    commit: str = ""

    @property
    def url(self) -> str:
        if self.commit:
            return f"https://github.com/{self.commit}"
        return f"https://stackoverflow.com/questions/{self.name}"

    @property
    def in_scope(self) -> bool:
        return bool(self.codes)


BUGS = (
    Bug(
        "48385830", "UALF", "UALF", ("missing-nonlinearity", *TOO_LARGE),
        "A digit classifier of two linear layers with nothing between them, by steps of 3.0, is at "
        "not-a-number within an epoch.",
        "The answer adds both activations and a fitting loss; the rate is among the listed faults.",
    ),
    Bug(
        "44164749", "ULF", "LF", OUTPUT,
        "A softmax has to predict several labels at once and can give at most one of them.",
        "The answer: sigmoids with binary cross-entropy.",
    ),
    Bug(
        "31556268", "ULF", "UF", TOO_SMALL,
        "XOR by SGD at 0.05 on an absolute error: after 1,000 epochs every output is one half.",
        "The patch takes Adam, a squared error and more epochs; with that error, a rate of 5 learns"
        " in the same 1,000.",
    ),
    Bug(
        "50306988", "UALF", "AF", TOO_SMALL,
        "Two clouds of points that five epochs of Adam at 0.001 do not tell apart.",
        "The patch raises the rate; that alone repairs it.",
    ),
    Bug(
        "48251943", "UF", "", OUTPUT,
        "A regression whose last layer is a ReLU predicts no negative value.",
        "The answer replaces the last ReLU.",
    ),
    Bug(
        "38648195", "UL", "L", OUTPUT,
        "A softmax with a squared error for documents that have none, one or several topics.",
        "The patch: sigmoids with binary cross-entropy.",
    ),
    Bug(
        "33969059", "ULF", "", OUTPUT,
        "A regression that ends in a softmax over one unit, and so always gives 1.",
        "The patch makes the last layer linear.",
    ),
    Bug(
        "55328966", "UAF", "UAF", (*UNSCALED, *OUTPUT),
        "Pixels up to 255 through sigmoids into a categorical cross-entropy: 10 % accuracy.",
        "The answer divides by 255, which repairs it with the patch's Adam; the softmax, which is "
        "in the patch too, helps alone.",
        leaves=("missing-nonlinearity",),
        remains="Two of the linear layers still have nothing between them.",
    ),
    Bug(
        "34311586", "ULF", "LF", OUTPUT,
        "XOR by a net that ends in a softmax over one unit, with weights within 0.05.",
        "The patch changes activation, rate and initialisation; without the first the others do "
        "nothing, since the gradient is exactly 0.",
    ),
    Bug(
        "31880720", "ULF", "F", OUTPUT,
        "A classifier of two classes that ends in a softmax over one unit.",
        "The answer: a sigmoid.",
        leaves=("born-dead",),
        remains="The data are two points, all 0 and all 1, and biases start at 0: half of the 50 "
        "units of the first layer fire on neither.",
    ),
    Bug(
        "39525358", "ULF", "F", UNSCALED,
        "Three columns of character codes from 65 to 70 go unscaled into layers within 0.05.",
        "The answer standardises; a higher rate, which is in the patch too, does nothing alone.",
    ),
    Bug(
        "39217567", "UF", "", ("vanishing-gradient", *TOO_SMALL),
        "Three narrow sigmoid layers with weights of 0.05, by SGD at 0.01, do not learn to permute "
        "bits.",
        "The patch takes ReLU and batches of one; a rate of 10 in batches of four repairs it too.",
    ),
    Bug(
        "48934338", "ULF", "UF", TOO_LARGE,
        "A parabola up to 125 by SGD at 0.1: the first steps kill all units, the mean is left.",
        "The answer lowers the rate.",
        leaves=("born-dead",),
        remains="The one input is never negative and biases start at 0, so that each of the 50 "
        "units with a negative weight, 23, never fires.",
    ),
    Bug(
        "47724077", "ULF", "", UNSCALED,
        "A census with weights up to 300,000 beside ages goes unscaled into a classifier.",
        "The patch standardises; its change of optimizer does nothing alone.",
    ),
    Bug(
        "59325381", "UF", "F", (),
        "Digits whose labels, not whose test images, were divided by 255.",
        "The labels are wrong: cast to integers they are all 0, and the net learns that perfectly.",
    ),
    Bug(
        "59278771", "ULF", "UF", (*UNSCALED, *DEAD),
        "Iris flowers in centimetres into four ReLUs: in many runs a class or two is never found.",
        "Scaling, which is in the patch, repairs it, and its SELU helps; its softmax does nothing.",
    ),
    Bug(
        "52800582", "ULF", "U", (*UNSCALED, "saturation", *TOO_SMALL),
        "Fourth powers of numbers up to 100, by Adam at 0.001: targets up to 100,000,000.",
        "The answer: inputs this large saturate the sigmoids, and targets this large are out of "
        "reach of the steps; a rate of 1 alone repairs it.",
    ),
    Bug(
        "41372874", "F", "F", (),
        "The direction of a sine from its last two values.",
        "No fault: accuracy is 1, and the question has no answer.",
        counted=False,
    ),
    Bug(
        "34673164", "UALF", "A", (*UNSCALED, "saturation"),
        "Sums of money and shares of one in the same table go unscaled into layers of tanh.",
        "The patch puts batch normalisation in; that, or scaling, repairs it alone. Its change of "
        "loss does nothing.",
    ),
    Bug(
        "48221692", "ULF", "U", OUTPUT,
        "A regression with targets up to 103 that ends in a sigmoid.",
        "The answer makes the last layer linear.",
    ),
    Bug(
        "50079585", "UAF", "UAF", OUTPUT,
        "Images of three classes, numbered 0 to 2, into one sigmoid with binary cross-entropy.",
        "The answer: three outputs, softmax, categorical cross-entropy.",
    ),
    Bug(
        "45337371", "ULF", "F", OUTPUT,
        "The gradient of a net that ends in a softmax over one unit is 0.",
        "The patch: a sigmoid. (The question asks how to get the gradient.)",
        leaves=("no-learning",),
        remains="Its targets are drawn at random, so that nothing can be learned: the loss "
        "stays that of a guess, 0.69.",
    ),
    Bug(
        "44066044", "ULF", "U", UNSCALED,
        "Network addresses as numbers of ten digits go unscaled into a net that ends in a ReLU.",
        "A comment says to scale; a sigmoid at the end, which is in the patch too, does nothing "
        "alone.",
    ),
    Bug(
        "51930566", "ULF", "", (),
        "Iris flowers with a sigmoid each for three exclusive classes.",
        "No effect: over 20 seeds mean accuracy is 0.70 with sigmoids and 0.72 with a softmax; "
        "DeepFD's own notes call the original faultless. The question reports no fault.",
    ),
    Bug(
        "47352366", "UALF", "UAL", OUTPUT,
        "A digit classifier that ends in ReLUs, into a categorical cross-entropy.",
        "The patch: a softmax.",
    ),
    Bug(
        "45442843", "ULF", "UF", (*OUTPUT, *UNSCALED),
        "Numbers around 20,000 go unscaled into a net that ends in a softmax over one unit.",
        "The answer scales, the patch replaces the softmax; it takes both.",
    ),
    Bug(
        "48594888", "ULF", "F", (),
        "Images learnt well in training and badly in the test.",
        "Too few epochs, and overfitting: the labels of the sheet are epochs and batch size.",
    ),
    Bug(
        "31627380", "ULF", "F", UNSCALED,
        "Codes of names and tickets up to 1,300 beside small numbers: the loss does not fall.",
        "The patch (sigmoid for a right softmax, or SGD) has no effect; standardising repairs it.",
    ),
    Bug(
        "58609115", "ULF", "", (),
        "Sixty-nine exclusive classes from one number, judged at first by categorical accuracy.",
        "Wrong metric: with binary cross-entropy the accuracy is counted per label, and 68 of 69 "
        "labels are 0 for everyone.",
    ),
    Bug(
        "50481178", "UF", "", (),
        "Two classes by one sigmoid instead of a softmax over two.",
        "No effect: the two are the same model, and reach 0.994 and 0.996.",
    ),
    Bug(
        "56380303", "ULF", "", (*TOO_LARGE, *UNSCALED),
        "Classes of remainders from raw numbers by SGD at 0.01: the loss leaps, one class is left.",
        "The answer takes Adam; scaling the numbers alone repairs it too.",
        leaves=("unscaled-input", "born-dead", "dying-relu"),
        remains="The answer leaves the numbers raw, up to 100 and never negative, which silences a "
        "third to a half of the 20 units of a layer.",
    ),
    Bug(
        "59282996", "UAF", "UAF", (),
        "Padding counted as a class of its own in a sequence labeller.",
        "The labels are wrong, and the epochs too few.",
    ),
    Bug(
        "58237726", "UAF", "AF", DEAD,
        "All that a convolution finds in six cubes goes through a single rectified filter.",
        "The answer takes the filter out. It is dead from the start in five runs of eight, and the "
        "higher rate, which is in the patch too, does nothing.",
    ),
    Bug(
        "37624102", "UALF", "UAF", TOO_LARGE,
        "A small convolutional net by SGD at 0.1 with a momentum of 0.9 gives one class for all.",
        "The answer lowers the rate.",
    ),
    Bug(
        "39810655", "ULF", "", (),
        "Iris flowers with one loss or the other for the same classes.",
        "No effect: DeepFD's own notes find high accuracy before the patch and no change by it; "
        "what remains is too few epochs.",
    ),
    Bug(
        "41327601", "ULF", "", (),
        "Binary cross-entropy seems more accurate than categorical.",
        "Wrong metric: the answer explains that accuracy is counted per label there.",
    ),
    Bug(
        "41600519", "UALF", "ALF", UNSCALED,
        "Collisions with missing values as -999, one at a time: the majority's class is left.",
        "The patch (Adam, squared error, more epochs) has no effect; standardising repairs it.",
    ),
    Bug(
        "41947039", "", "", (),
        "Several time series by an LSTM.",
        "Not run by any of the four; the question is one of shapes.",
        counted=False,
    ),
    Bug(
        "41977498", "UF", "F", TOO_SMALL,
        "A recurrent net does not fit sixty short sequences in ten epochs of RMSprop at 0.001.",
        "The patch: Adam at 0.01, more epochs; that rate alone takes accuracy from 0.4 to 0.8.",
    ),
    Bug(
        "42514960", "U", "", DEAD,
        "An autoencoder of ReLUs whose code dies gives the same output for everything.",
        "The patch: tanh in the place of ReLU.",
    ),
    Bug(
        "42800203", "ULF", "", OUTPUT,
        "An LSTM that is read by a softmax over one unit.",
        "The patch: a sigmoid.",
    ),
    Bug(
        "44998910", "UF", "F", TOO_SMALL,
        "A polynomial of degree four after twenty epochs of SGD at 0.01: nearly a straight line.",
        "The patch: a higher rate; that alone repairs it.",
        leaves=("born-dead",),
        remains="The one input is never negative and biases start at 0, so that each of the 200 "
        "units with a negative weight, 105, never fires.",
    ),
    Bug(
        "46642627", "UAF", "F", OUTPUT,
        "A regression with targets above 1 that ends in a sigmoid, by binary cross-entropy.",
        "The answer makes the last layer linear.",
        leaves=("born-dead",),
        remains="The one input is never negative and biases start at 0, so that each of the 20 "
        "units with a negative weight, 10, never fires.",
    ),
    Bug(
        "46995209", "UF", "U", (*UNSCALED, "saturation"),
        "A sine over the numbers to 1,000, which go unscaled into tanh, before nine more layers.",
        "The answer scales, since such inputs saturate tanh; that alone repairs it.",
    ),
    Bug(
        "51181393", "ULF", "F", TOO_SMALL,
        "A line of slope 5 by RMSprop at 0.001: two hundred epochs do not get there.",
        "The answer raises the rate to 0.1.",
    ),
    Bug(
        "47932589", "UALF", "", DEAD,
        "The frequency of a sine by an LSTM that ends in a ReLU: always 0.",
        "A comment: the last ReLU is on its flat side, and nothing can be learnt there. (The "
        "answer adds examples and scales the targets.)",
    ),
    Bug(
        "37213388", "ULF", "", (),
        "The digits example for two epochs, in the place of sounds of which no data are given.",
        "Too few epochs; the program of the benchmark is not the one that was asked about.",
    ),
    Bug(
        "gol_nn", "UF", "F", TOO_SMALL,
        "The Game of Life in five epochs of Adam at 0.001.",
        "The patch raises the rate to 0.01; that alone repairs it.",
        commit="alexander-travov/gol_nn/commit/d9b30a0fed68e489e8c064b43a21ab9e7d80b649",
    ),
    Bug(
        "FacialKeypointsDetection", "ULF", "F", TOO_LARGE,
        "Key points of faces by Adam at 0.1: the error stays above that of the mean.",
        "The patch takes SGD at 0.01; Adam at 0.001 repairs it as well.",
        leaves=("missing-nonlinearity",),
        remains="Two of the linear layers still have nothing between them.",
        commit="ShyamPoovaiah/FacialKeypointsDetection/commit/"
        "654392560f25688822862126005f576b682e38ad",
    ),
    Bug(
        "MovieReviews_Keras", "UL", "", (),
        "Film reviews are learnt by heart.",
        "Overfitting: the patch adds dropout and epochs.",
        commit="tautvydasversockas/MovieReviews_Keras/commit/"
        "59119a216e6e3af76c477629ba5e8ecea4fa821b",
    ),
    Bug(
        "Traffic-Sign-Classifier", "ULF", "", (*DEAD, *UNSCALED),
        "A first convolution of three rectified units on dark images: some never fire.",
        "The patch takes activations that cannot die. Dark images less one half lie five spreads "
        "below 0, which is why; scaling them alone repairs it too, from 0.73 to 0.99.",
        commit="ulmefors/Traffic-Sign-Classifier/commit/e6a48ce24fe62b1cae39274c4ca5c3a5849c67ed",
    ),
    Bug(
        "kaggle-melbourne_properties", "UL", "L", (),
        "Prices of houses by two layers of tanh.",
        "The patch makes the widths an option; the default net, its activations, initialisation "
        "and loss stay.",
        commit="yetanotherdeveloper/kaggle-melbourne_properties/commit/"
        "3d11b400a53996d30bcde0bebfb96578e99e97c8",
    ),
)  # fmt: skip


def published(bugs: tuple[Bug, ...] | list[Bug], tool: str) -> tuple[int, int]:
    """How many bugs a tool, by its initial, was published to have detected and diagnosed."""
    return (
        sum(tool in bug.detected for bug in bugs),
        sum(tool in bug.diagnosed for bug in bugs),
    )
