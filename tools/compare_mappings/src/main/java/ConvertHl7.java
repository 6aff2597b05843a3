import io.github.linuxforhealth.hl7.HL7ToFHIRConverter;
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.lang.management.ManagementFactory;
import java.lang.management.ThreadMXBean;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Base64;
import java.util.List;

/**
 * Converts the messages on its standard input (one a line, Base64 of UTF-8) as often as its arguments
 * say, and prints what that cost.
 *
 * <p>Arguments: rounds to warm up, rounds to measure. Output: a line "taken" with a 0 or a 1 per
 * message, then a line per measured round with the nanoseconds of processor time that the converting
 * thread took for the messages it can convert, and a last line with the resources made in a round.
 */
public final class ConvertHl7 {
    private ConvertHl7() {}

    public static void main(String[] arguments) throws Exception {
        PrintStream out = System.out;
        // Its logging goes to standard output; the figures must stay alone there.
        System.setOut(System.err);
        List<String> messages = new ArrayList<>();
        BufferedReader input =
            new BufferedReader(new InputStreamReader(System.in, StandardCharsets.US_ASCII));
        for (String line = input.readLine(); line != null; line = input.readLine()) {
            messages.add(new String(Base64.getDecoder().decode(line), StandardCharsets.UTF_8));
        }
        HL7ToFHIRConverter converter = new HL7ToFHIRConverter();
        List<String> taken = new ArrayList<>();
        StringBuilder which = new StringBuilder("taken ");
        long resources = 0;
        for (String message : messages) {
            String converted = attempt(converter, message);
            which.append(converted == null ? '0' : '1');
            if (converted != null) {
                taken.add(message);
                resources += count(converted);
            }
        }
        out.println(which);
        for (int round = 0; round < Integer.parseInt(arguments[0]); round++) {
            convertAll(converter, taken);
        }
        ThreadMXBean threads = ManagementFactory.getThreadMXBean();
        for (int round = 0; round < Integer.parseInt(arguments[1]); round++) {
            long start = threads.getCurrentThreadCpuTime();
            convertAll(converter, taken);
            out.println(threads.getCurrentThreadCpuTime() - start);
        }
        out.println("resources " + resources);
        out.flush();
        System.exit(0);
    }

    private static void convertAll(HL7ToFHIRConverter converter, List<String> messages) {
        for (String message : messages) {
            converter.convert(message);
        }
    }

    /** The bundle, or null where the converter does not take the message. */
    private static String attempt(HL7ToFHIRConverter converter, String message) {
        try {
            return converter.convert(message);
        } catch (RuntimeException refusal) {
            System.err.println("not taken: " + refusal.getClass().getName());
            return null;
        }
    }

    private static long count(String bundle) {
        return bundle.split("\"resource\"\\s*:", -1).length - 1L;
    }
}
