package cellseg.imagej;

import ij.Macro;
import ij.macro.Interpreter;

/** Ends the macro that called a command. */
final class Macros {

    private Macros() {}

    /**
     * Ends the macro that runs, if one does, without a message.
     *
     * Macro.abort() does not: in ImageJ 1.54 a macro goes on after a cancelled command, and would
     * then work on the wrong image.
     */
    static void end() {
        final Interpreter macro = Interpreter.getInstance();
        if (macro != null) {
            macro.setIgnoreErrors(true);
            macro.abort(Macro.MACRO_CANCELED);
        }
    }
}
