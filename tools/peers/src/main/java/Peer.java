import ca.uhn.hl7v2.DefaultHapiContext;
import ca.uhn.hl7v2.HapiContext;
import ca.uhn.hl7v2.app.Connection;
import ca.uhn.hl7v2.app.HL7Service;
import ca.uhn.hl7v2.app.Initiator;
import ca.uhn.hl7v2.app.TimeoutException;
import ca.uhn.hl7v2.hoh.api.DecodeException;
import ca.uhn.hl7v2.hoh.raw.api.RawSendable;
import ca.uhn.hl7v2.hoh.raw.client.HohRawClientSimple;
import ca.uhn.hl7v2.llp.MinLLPReader;
import ca.uhn.hl7v2.llp.MinLLPWriter;
import ca.uhn.hl7v2.llp.MinLowerLayerProtocol;
import ca.uhn.hl7v2.model.Message;
import ca.uhn.hl7v2.parser.GenericModelClassFactory;
import ca.uhn.hl7v2.protocol.ReceivingApplication;
import ca.uhn.hl7v2.util.idgenerator.InMemoryIDGenerator;
import ca.uhn.hl7v2.validation.impl.ValidationContextFactory;
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.net.Socket;
import java.net.SocketTimeoutException;
import java.nio.charset.Charset;
import java.nio.charset.StandardCharsets;
import java.util.Base64;
import java.util.Map;
import java.util.concurrent.TimeUnit;
import javax.net.ssl.SSLSocketFactory;


/**
 * HAPI HL7v2 as a peer. Reads lines "MILLISECONDS CHARSET BASE64" from its standard input, sends each
 * message and writes a line for it: the answer in base 64, "-" when none came in that time, or
 * "!" and what HAPI says.
 *
 * <pre>
 * framing HOST PORT    its block writer and reader, byte for byte
 * initiator HOST PORT  its client: the message is parsed and written again by HAPI, and the answer is
 *                      matched by MSA-2
 * http URL             its client of HL7 over HTTP
 * receive PORT         its server, which answers what it takes with its own acknowledgement
 * camel HOST PORT      the client of Camel's component mllp, byte for byte
 * camel-receive PORT   the server of the same, which answers with its automatic acknowledgement
 * </pre>
 *
 * With the property peer.tls all but http speak TLS.
 */
public final class Peer {
    /** One message there and its answer back; null when none came in that time. */
    interface Exchange {
        String answer(String message, int milliseconds, Charset charset) throws Exception;
    }

    /** Over TLS, with the keys and authorities of Java's own properties (javax.net.ssl). */
    static final boolean TLS = Boolean.getBoolean("peer.tls");

    private static final PrintStream OUT = new PrintStream(System.out, true, StandardCharsets.US_ASCII);

    public static void main(String[] arguments) throws Exception {
        switch (arguments[0]) {
            case "framing" -> run(framing(arguments[1], Integer.parseInt(arguments[2])));
            case "initiator" -> run(initiator(arguments[1], Integer.parseInt(arguments[2])));
            case "http" -> run(http(arguments[1]));
            case "receive" -> receive(Integer.parseInt(arguments[1]));
            case "camel" -> run(CamelPeer.client(arguments[1], Integer.parseInt(arguments[2])));
            case "camel-receive" -> CamelPeer.receive(Integer.parseInt(arguments[1]), Peer::untilClosed);
            default -> throw new IllegalArgumentException(arguments[0]);
        }
        System.exit(0);
    }

    private static void run(Exchange exchange) throws Exception {
        BufferedReader lines =
                new BufferedReader(new InputStreamReader(System.in, StandardCharsets.US_ASCII));
        for (String line = lines.readLine(); line != null; line = lines.readLine()) {
            String[] parts = line.split(" ", 3);
            Charset charset = Charset.forName(parts[1]);
            String message = new String(Base64.getDecoder().decode(parts[2]), charset);
            String told;
            try {
                String answer = exchange.answer(message, Integer.parseInt(parts[0]), charset);
                told = answer == null ? "-" : Base64.getEncoder().encodeToString(answer.getBytes(charset));
            } catch (Exception error) {
                String words = error.getClass().getSimpleName() + ": " + error.getMessage();
                told = "!" + words.replaceAll("[\\r\\n]+", " ").replaceAll("[^ -~]", "?");
            }
            OUT.println(told);
        }
    }

    private static Exchange framing(String host, int port) throws Exception {
        Socket socket =
                TLS ? SSLSocketFactory.getDefault().createSocket(host, port) : new Socket(host, port);
        // Every byte is a character of this set, so that nothing is changed on the way.
        MinLLPWriter writer = new MinLLPWriter(socket.getOutputStream(), StandardCharsets.ISO_8859_1);
        MinLLPReader reader = new MinLLPReader(socket.getInputStream(), StandardCharsets.ISO_8859_1);
        return (message, milliseconds, charset) -> {
            socket.setSoTimeout(milliseconds);
            writer.writeMessage(message);
            try {
                return reader.getMessage();
            } catch (SocketTimeoutException nothing) {
                return null;
            }
        };
    }

    private static HapiContext context() {
        MinLowerLayerProtocol framing = new MinLowerLayerProtocol();
        framing.setCharset(StandardCharsets.ISO_8859_1);
        DefaultHapiContext context = new DefaultHapiContext();
        context.setLowerLayerProtocol(framing);
        // Without this it counts its control ids in a file of the working folder.
        context.getParserConfiguration().setIdGenerator(new InMemoryIDGenerator());
        context.setModelClassFactory(new GenericModelClassFactory());
        context.setValidationContext(ValidationContextFactory.noValidation());
        return context;
    }

    private static Exchange initiator(String host, int port) throws Exception {
        HapiContext context = context();
        Connection connection = context.newClient(host, port, TLS);
        Initiator initiator = connection.getInitiator();
        return (text, milliseconds, charset) -> {
            initiator.setTimeout(milliseconds, TimeUnit.MILLISECONDS);
            Message message = context.getPipeParser().parse(text);
            try {
                return context.getPipeParser().encode(initiator.sendAndReceive(message));
            } catch (TimeoutException nothing) {
                return null;
            }
        };
    }

    private static Exchange http(String url) throws Exception {
        HohRawClientSimple client = new HohRawClientSimple(new java.net.URL(url));
        return (message, milliseconds, charset) -> {
            client.setCharset(charset);
            client.setResponseTimeout(milliseconds);
            try {
                return client.sendAndReceive(new RawSendable(message)).getMessage();
            } catch (DecodeException nothing) {
                // It does not know of answers without content (204).
                if (nothing.getMessage().contains("Content-Type not specified")) {
                    return null;
                }
                throw nothing;
            }
        };
    }

    private static void receive(int port) throws Exception {
        HapiContext context = context();
        HL7Service service = context.newServer(port, TLS);
        service.registerApplication(
                new ReceivingApplication<Message>() {
                    @Override
                    public Message processMessage(Message message, Map<String, Object> metadata)
                            throws ca.uhn.hl7v2.protocol.ReceivingApplicationException {
                        try {
                            return message.generateACK();
                        } catch (Exception error) {
                            throw new ca.uhn.hl7v2.protocol.ReceivingApplicationException(error);
                        }
                    }

                    @Override
                    public boolean canProcess(Message message) {
                        return true;
                    }
                });
        service.startAndWait();
        untilClosed();
        service.stopAndWait();
    }

    private static void untilClosed() throws java.io.IOException {
        OUT.println("listening");
        while (System.in.read() >= 0) {
            // Until whoever started it closes its input.
        }
    }
}
