import java.nio.charset.Charset;
import javax.net.ssl.SSLContext;
import org.apache.camel.CamelContext;
import org.apache.camel.Exchange;
import org.apache.camel.ProducerTemplate;
import org.apache.camel.builder.RouteBuilder;
import org.apache.camel.component.mllp.MllpAcknowledgementTimeoutException;
import org.apache.camel.component.mllp.MllpConstants;
import org.apache.camel.component.mllp.MllpEndpoint;
import org.apache.camel.component.mllp.MllpException;
import org.apache.camel.impl.DefaultCamelContext;
import org.apache.camel.support.jsse.SSLContextParameters;

/** Camel's component mllp as a peer of its own: it has its own framing and matches no HAPI code. */
final class CamelPeer {
    private CamelPeer() {}

    interface Waiting {
        void untilTheEnd() throws Exception;
    }

    static Peer.Exchange client(String host, int port) throws Exception {
        CamelContext context = context();
        MllpEndpoint endpoint = context.getEndpoint(address(host, port), MllpEndpoint.class);
        context.start();
        ProducerTemplate template = context.createProducerTemplate();
        return (message, milliseconds, charset) -> {
            endpoint.getConfiguration().setReceiveTimeout(milliseconds);
            Exchange done =
                    template.request(endpoint, asked -> asked.getIn().setBody(message.getBytes(charset)));
            return answer(done, charset);
        };
    }

    /** Camel makes an exception of each negative acknowledgement, which carries its bytes. */
    private static String answer(Exchange done, Charset charset) throws Exception {
        Exception fault = done.getException();
        if (fault == null) {
            byte[] told = done.getMessage().getHeader(MllpConstants.MLLP_ACKNOWLEDGEMENT, byte[].class);
            return new String(told, charset);
        }
        if (fault instanceof MllpAcknowledgementTimeoutException) {
            return null;
        }
        if (fault instanceof MllpException refused && refused.hasHl7AcknowledgementBytes()) {
            return new String(refused.getHl7AcknowledgementBytes(), charset);
        }
        throw fault;
    }

    static void receive(int port, Waiting waiting) throws Exception {
        CamelContext context = context();
        context.addRoutes(
                new RouteBuilder() {
                    @Override
                    public void configure() {
                        from(address("127.0.0.1", port)).process(exchange -> {});
                    }
                });
        context.start();
        waiting.untilTheEnd();
        context.stop();
    }

    private static CamelContext context() throws Exception {
        CamelContext context = new DefaultCamelContext();
        SSLContextParameters defaults =
                new SSLContextParameters() {
                    @Override
                    public SSLContext createSSLContext(CamelContext ignored) {
                        try {
                            return SSLContext.getDefault();
                        } catch (java.security.NoSuchAlgorithmException impossible) {
                            throw new IllegalStateException(impossible);
                        }
                    }
                };
        context.getRegistry().bind("defaults", defaults);
        return context;
    }

    private static String address(String host, int port) {
        String tls = Peer.TLS ? "&sslContextParameters=#defaults" : "";
        return "mllp:" + host + ":" + port + "?stringPayload=false&validatePayload=false" + tls;
    }
}
