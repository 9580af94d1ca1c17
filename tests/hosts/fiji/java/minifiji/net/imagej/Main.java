package net.imagej;

import ij.macro.Interpreter;

import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Paths;

import org.scijava.Context;

/** Stands in for ImageJ2's own, which Maven Central lacks: "--headless --run MACRO". */
public final class Main {

    private Main() {}

    public static void main(final String[] arguments) throws Exception {
        Thread.currentThread().setContextClassLoader(Main.class.getClassLoader());
        new Context(); // patches and starts ImageJ
        final byte[] macro = Files.readAllBytes(Paths.get(arguments[arguments.length - 1]));
        Later.run(new String(macro, StandardCharsets.UTF_8));
        System.exit(0);
    }

    /** What loads classes of ImageJ, and so has to wait for the patches. */
    private static final class Later {
        static void run(final String macro) {
            new Interpreter().run(macro, "");
        }
    }
}
