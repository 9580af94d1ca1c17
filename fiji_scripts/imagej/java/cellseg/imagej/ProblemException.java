package cellseg.imagej;

/** Something that the user can act on; the message is a sentence. */
class ProblemException extends Exception {

    private static final long serialVersionUID = 1L;

    ProblemException(final String message) {
        super(message);
    }
}
